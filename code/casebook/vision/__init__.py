"""Part "vision": from AlexNet to residual networks."""
