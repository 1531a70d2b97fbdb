"""What `bench/compare` and the scale scripts are made of."""
