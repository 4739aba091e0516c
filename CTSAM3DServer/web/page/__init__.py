"""What a page shows: views, panel, menus and shortcuts."""
