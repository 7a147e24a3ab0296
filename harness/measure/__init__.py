"""Timing, telemetry and statistics: numbers out of engines, and what they prove."""
