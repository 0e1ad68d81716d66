"""What a run takes beside time: power and energy, money, failures, and how many machines to buy."""
