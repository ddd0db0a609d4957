"""What our HTTP servers share: ranges, uploads by tus, refusals, and how fast and how long."""
