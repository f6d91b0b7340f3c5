"""What `cellunet.tasks.train` is made of, from annotated folders to files."""
