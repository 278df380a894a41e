"""The live panel of `fastecho top`."""
