"""What makes and checks bundles: assembling, exporting, fetching, quantising, sealing."""
