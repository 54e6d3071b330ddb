"""What a checkpoint holds, how one is saved, and what is checked where one is loaded."""
