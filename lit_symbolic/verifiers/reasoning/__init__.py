"""What stands under the verifiers of logic: programs and the forward chainer, formulas and the prover."""
