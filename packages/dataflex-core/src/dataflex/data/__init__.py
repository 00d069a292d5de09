"""How samples reach the training loop (plan sampler, ticket loader) and a scoring pass (scoring loader)."""
