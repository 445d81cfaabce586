"""Sight: what the records of agent hosts prove about messages that were handed to them."""
