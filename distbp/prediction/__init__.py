"""What a trained run says about examples: evaluate and predict."""
