"""Use of machines over a month: hours by a calendar, and the bill of having them in one way or another."""
