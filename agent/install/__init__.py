"""`understudy agent install`: makes the daemon a service that comes back by itself."""
