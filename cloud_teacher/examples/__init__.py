"""Teachers from elsewhere, made usable by a YAML file each (`cloud_teacher.description`)."""
