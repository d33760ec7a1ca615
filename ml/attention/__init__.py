"""The attention model: tokens, kernels, network, training, export, and the model that the platform calls.

In: a `Panel`. Out: `Forecasts`, exact attention weights, model state.
Never: a value imputed for a missing modality, or a forecast further from its anchor than the residual cap.
"""
