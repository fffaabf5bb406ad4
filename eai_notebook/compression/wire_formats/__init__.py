"""The wire formats that come with the package, one file each."""
