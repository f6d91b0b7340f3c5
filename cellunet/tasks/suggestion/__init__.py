"""What `cellunet.tasks.suggest` is made of: windows, crops, reasons."""
