"""The HTTP side: `create_app(settings)` is the only assembly; routes hold no rules of their own."""
