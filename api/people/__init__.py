"""Who somebody is: people, groups, passwords, API keys, tokens of ours and of an identity provider. What they see the database decides."""
