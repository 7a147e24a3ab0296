"""What runs models: vendors, devices, the engine host, plans on disk."""
