"""The service: renders on demand over HTTP, and the page to watch them. Ray stays in `deployment` and `cast`."""
