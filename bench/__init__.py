"""Measuring Sentinel: a chaos mock upstream, a load generator, and the bench that puts the gateway between the two."""
