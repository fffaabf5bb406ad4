"""Image files: listing, decoding, cropping."""
