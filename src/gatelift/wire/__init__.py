"""The wire: frames, sockets, HTTP, files by digest and keys at rest. Import from its modules."""
