"""What-if: the inputs that a result depends on, and the reasons why two results differ."""
