"""What `cellunet.tasks.predict` is made of: one plane, and what is written of it."""
