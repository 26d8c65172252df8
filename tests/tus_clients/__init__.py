"""Clients and a reference server of tus in JavaScript, from npm's packages."""
