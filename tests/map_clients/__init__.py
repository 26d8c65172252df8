"""Map clients that nobody changed for us, at the running application: pages in a browser, QGIS, and the schemas of the OGC."""
