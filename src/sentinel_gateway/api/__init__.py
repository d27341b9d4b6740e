"""Inward: HTTP only. Parse, call the path, render. Nothing here decides what is cached, routed or allowed."""
