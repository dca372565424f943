"""Tasks with a checkable solution: silent on values, or paid for breaking a rule."""
