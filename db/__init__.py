"""Settings, pools, named SQL, migrations and the embedded cluster. Imports no other package of ours."""
