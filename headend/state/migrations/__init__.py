"""The steps from one schema to the next. No step is ever changed once it was released, and none goes back."""
