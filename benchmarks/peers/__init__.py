"""The programs fastecho is compared with: our own, each as its author would write it."""
