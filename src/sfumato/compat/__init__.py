"""Other people's file formats: rename tables and configuration readers."""
