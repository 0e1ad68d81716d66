"""What does it mean? Numbers read off one finished run."""
