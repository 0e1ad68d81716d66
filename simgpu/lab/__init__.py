"""The lab: tables of measurements against predictions, constants fitted to them, and measuring itself."""
