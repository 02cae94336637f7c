// The methods of TensorFlow Lite Micro's resolver that add a builtin operator, by name. Each one takes a place and says so.
#ifndef STUB_MICRO_MUTABLE_OP_RESOLVER_H
#define STUB_MICRO_MUTABLE_OP_RESOLVER_H

#include <cstdio>

#include "tensorflow/lite/c/common.h"

namespace tflite {

class MicroOpResolver {
 public:
  virtual ~MicroOpResolver() {}
};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
#define STUB_METHOD(name) \
  TfLiteStatus Add##name() { return Take(#name); }
  STUB_METHOD(Abs)
  STUB_METHOD(Add)
  STUB_METHOD(AddN)
  STUB_METHOD(ArgMax)
  STUB_METHOD(ArgMin)
  STUB_METHOD(AssignVariable)
  STUB_METHOD(AveragePool2D)
  STUB_METHOD(BatchMatMul)
  STUB_METHOD(BatchToSpaceNd)
  STUB_METHOD(BroadcastArgs)
  STUB_METHOD(BroadcastTo)
  STUB_METHOD(CallOnce)
  STUB_METHOD(Cast)
  STUB_METHOD(Ceil)
  STUB_METHOD(Concatenation)
  STUB_METHOD(Conv2D)
  STUB_METHOD(Cos)
  STUB_METHOD(CumSum)
  STUB_METHOD(DepthToSpace)
  STUB_METHOD(DepthwiseConv2D)
  STUB_METHOD(Dequantize)
  STUB_METHOD(Div)
  STUB_METHOD(DynamicUpdateSlice)
  STUB_METHOD(Elu)
  STUB_METHOD(EmbeddingLookup)
  STUB_METHOD(Equal)
  STUB_METHOD(Exp)
  STUB_METHOD(ExpandDims)
  STUB_METHOD(Fill)
  STUB_METHOD(Floor)
  STUB_METHOD(FloorDiv)
  STUB_METHOD(FloorMod)
  STUB_METHOD(FullyConnected)
  STUB_METHOD(Gather)
  STUB_METHOD(GatherNd)
  STUB_METHOD(Greater)
  STUB_METHOD(GreaterEqual)
  STUB_METHOD(HardSwish)
  STUB_METHOD(If)
  STUB_METHOD(L2Normalization)
  STUB_METHOD(L2Pool2D)
  STUB_METHOD(LeakyRelu)
  STUB_METHOD(Less)
  STUB_METHOD(LessEqual)
  STUB_METHOD(Log)
  STUB_METHOD(LogSoftmax)
  STUB_METHOD(LogicalAnd)
  STUB_METHOD(LogicalNot)
  STUB_METHOD(LogicalOr)
  STUB_METHOD(Logistic)
  STUB_METHOD(MaxPool2D)
  STUB_METHOD(Maximum)
  STUB_METHOD(Mean)
  STUB_METHOD(Minimum)
  STUB_METHOD(MirrorPad)
  STUB_METHOD(Mul)
  STUB_METHOD(Neg)
  STUB_METHOD(NotEqual)
  STUB_METHOD(Pack)
  STUB_METHOD(Pad)
  STUB_METHOD(PadV2)
  STUB_METHOD(Prelu)
  STUB_METHOD(Quantize)
  STUB_METHOD(ReadVariable)
  STUB_METHOD(ReduceAll)
  STUB_METHOD(ReduceMax)
  STUB_METHOD(ReduceMin)
  STUB_METHOD(Relu)
  STUB_METHOD(Relu6)
  STUB_METHOD(Reshape)
  STUB_METHOD(ResizeBilinear)
  STUB_METHOD(ResizeNearestNeighbor)
  STUB_METHOD(ReverseV2)
  STUB_METHOD(Round)
  STUB_METHOD(Rsqrt)
  STUB_METHOD(SelectV2)
  STUB_METHOD(Shape)
  STUB_METHOD(Sin)
  STUB_METHOD(Slice)
  STUB_METHOD(Softmax)
  STUB_METHOD(SpaceToBatchNd)
  STUB_METHOD(SpaceToDepth)
  STUB_METHOD(Split)
  STUB_METHOD(SplitV)
  STUB_METHOD(Sqrt)
  STUB_METHOD(Square)
  STUB_METHOD(SquaredDifference)
  STUB_METHOD(Squeeze)
  STUB_METHOD(StridedSlice)
  STUB_METHOD(Sub)
  STUB_METHOD(Sum)
  STUB_METHOD(Svdf)
  STUB_METHOD(Tanh)
  STUB_METHOD(Transpose)
  STUB_METHOD(TransposeConv)
  STUB_METHOD(UnidirectionalSequenceLSTM)
  STUB_METHOD(Unpack)
  STUB_METHOD(VarHandle)
  STUB_METHOD(While)
  STUB_METHOD(ZerosLike)
#undef STUB_METHOD

 private:
  TfLiteStatus Take(const char* name) {
    if (taken_ == tOpCount) return kTfLiteError;
    ++taken_;
    std::printf("operator: %s, %u left\n", name, tOpCount - taken_);
    return kTfLiteOk;
  }

  unsigned int taken_ = 0;
};

}  // namespace tflite

#endif  // STUB_MICRO_MUTABLE_OP_RESOLVER_H
