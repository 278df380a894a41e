"""How one option is parsed, validated and formatted."""
