"""What helps people to write templates: finding faults, trying a template, and comparing two versions of one."""
