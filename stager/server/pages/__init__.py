"""The page: what people see of the server in a browser, rendered here, without a build step and without another host."""
