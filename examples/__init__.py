"""Programs that use Gatelift as anybody else would: its command line, its HTTP, its files."""
