"Run the command line with `python -m bump`."
from bump.cli.main import main

raise SystemExit(main())
