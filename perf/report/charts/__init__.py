"""Pictures on a report's page, as SVG and HTML."""
