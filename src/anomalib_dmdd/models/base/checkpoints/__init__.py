"""What a checkpoint holds, and what is checked where one is saved or loaded."""
