"""The LightningModule that wraps any architecture, and training it by a configuration."""
