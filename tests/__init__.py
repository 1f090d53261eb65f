"""Tests across the packages, and the servers that all tests share."""
