"""Trains the small model that ships with the service."""
