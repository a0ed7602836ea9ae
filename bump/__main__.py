"Run the command line with `python -m bump`."
from bump.cli import main

raise SystemExit(main())
