"""`understudy agent doctor`: tries each thing the daemon needs, the risky ones in a process of their own.

`examination` goes through them; every `try_*` is a program that does one thing for real and prints a JSON object.
"""
