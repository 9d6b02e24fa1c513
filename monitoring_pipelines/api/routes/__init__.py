"""Routes of the JSON API, one module per subject; each has ``router`` and is listed in ``api.app.ROUTES``."""
