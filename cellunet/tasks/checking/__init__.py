"""What `cellunet.tasks.check_labels` and previews of annotations are made of."""
