"""What people see: tables, progress, pages and diagrams."""
