"""The routes, one module for each concern. Each has `add_routes(app, service)`."""
