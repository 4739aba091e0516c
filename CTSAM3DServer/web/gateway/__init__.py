"""The process that faces the browser: it lets people in and hands each page to a process of its own."""
