"""Train, evaluate and sample: ``python train.py fit|validate|test|predict --config configs/<task>/<recipe>.yaml``."""

from lit_symbolic.cli import main

if __name__ == "__main__":
    main()
